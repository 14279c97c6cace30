"""The dashboard in a real browser: Debian's Chromium, driven through its own driver (`make browser`)."""
