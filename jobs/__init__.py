"""The stages, one module each, on Ray Data and Ray actors: extract, curate, train, evaluate, publish, run."""
