"""Write the result: durable segments, a journal, the finished file and what is made of it."""
