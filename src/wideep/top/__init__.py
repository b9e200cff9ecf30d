"""`wideep top`: what a deployment does just now, asked of its processes themselves."""
