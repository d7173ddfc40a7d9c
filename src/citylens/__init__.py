"""What does a network look at when it tells one city from another, and can we trust what it shows?"""
