"""Times as ledgers write them, the same in both languages: years first, 24 hours."""
