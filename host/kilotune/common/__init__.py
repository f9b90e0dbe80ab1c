"""Files written whole, locks, and JSON records read strictly: what every folder above may use."""
