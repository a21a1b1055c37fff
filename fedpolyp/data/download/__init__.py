"""Downloads public data sets: under their licences, resumed after interruptions, and with the same bytes each time."""
