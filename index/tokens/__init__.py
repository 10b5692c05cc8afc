"""Collections with a vector for each token of a document, compared by MaxSim."""
