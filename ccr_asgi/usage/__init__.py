"""What every request took: read from the answers, written to the usage database."""
