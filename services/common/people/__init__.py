"""What persons wrote and are called: sealed with their own key, forgotten with it."""
