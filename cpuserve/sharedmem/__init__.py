"""Memory that the arbiter and its workers share: blocks with named fields, and a lock for them."""
