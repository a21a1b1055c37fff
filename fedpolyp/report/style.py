"""The colours of all pictures: Okabe and Ito's palette, which the colour-blind can tell apart."""

BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
YELLOW = "#F0E442"
SKY = "#56B4E9"

# Both stand out from red tissue, and from each other.
TRUTH, PREDICTION = SKY, YELLOW
