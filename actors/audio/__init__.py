"""The main job: one recording from upload to events, in four steps."""
