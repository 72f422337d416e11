"""Where answers to frames are written: JSON lines, tables and annotated videos."""
