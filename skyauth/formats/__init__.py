"""How pages write dates and times; Django looks here first."""
