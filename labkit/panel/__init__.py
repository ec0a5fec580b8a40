"""The explorable: controls, a run in short pieces, live pictures."""
