"""What cohorts writes: each change of who a user is goes through here."""
