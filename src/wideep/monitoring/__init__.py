"""What is measured of a deployment: who is scraped, and what is told to somebody. Pure, like the plan."""
