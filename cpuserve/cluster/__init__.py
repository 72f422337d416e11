"""Has Ray place and keep a server for each NUMA node of every node, and tells clients where they are."""
