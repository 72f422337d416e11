"""The sections of a profile's page, each a function from a view to HTML; they compute nothing new."""
