"""The shape that all instruments share: settings, a lab to look in, and a reading."""
