"""Where the secrets that go upstream come from."""
