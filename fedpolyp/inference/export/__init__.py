"""A trained model in the formats of other programs, each checked against Keras before it is kept."""
