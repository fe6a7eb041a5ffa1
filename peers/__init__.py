"""Our server beside five others, with one and the same work: how fast each is, and what it does with bad callers."""
