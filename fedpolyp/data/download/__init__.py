"""Downloads of public data sets: under their licences, resumed where they broke off, and the same bytes each time."""
