"""Everything outward: the REST server and the pages that a browser shows."""
