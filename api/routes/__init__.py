"""One module a subject: billing (money and balance), drill (what is under a bill), metered (usage and sessions),
outlook (ahead and odd), ops."""
