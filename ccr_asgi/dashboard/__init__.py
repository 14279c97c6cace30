"""The pages and the JSON that show what usage.db holds."""
