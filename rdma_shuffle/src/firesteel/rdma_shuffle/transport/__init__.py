"""How blocks move between nodes: one Protocol, and what implements it."""
