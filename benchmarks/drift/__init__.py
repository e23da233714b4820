"""How soon drift is seen, by ours and by others, at their own settings and at an equal rate of false alarms."""
