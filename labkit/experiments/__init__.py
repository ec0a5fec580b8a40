"""One experiment, from its settings to its tables: what is trained, when, and what came out."""
