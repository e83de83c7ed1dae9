"""What submissions and tracks of the small kit import."""
