"""How graphs are built and compiled, and black boxes as operations: the ground of all parts."""
