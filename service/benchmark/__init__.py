"""How fast a server answers, and how fast the machine could: the load, the limit, and the tables of both."""
