"""HTTP: payments and profiles in, one profile out."""
