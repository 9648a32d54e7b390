"""One module a subject: billing (money and balance), drill (what is under a bill), outlook (ahead and odd), ops."""
