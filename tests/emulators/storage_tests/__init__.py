"""The emulated Cloud Storage, held against its promises by the real client."""
