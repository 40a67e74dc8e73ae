"""The machines that train one run together: how they meet, compare what they have, and keep one another informed."""
