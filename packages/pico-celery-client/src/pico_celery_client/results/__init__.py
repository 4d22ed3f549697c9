"""Results: how a sender hears of them."""
