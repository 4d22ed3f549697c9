"""What the web service and the worker agree on. It imports nothing."""

FULFIL = "shop.fulfil"
"""The task that fulfils an order: of a product, for an address."""

STEPS = ("Ordered", "Made", "Cleared", "Delivered")
"""What an order goes through. The task's progress counts them."""

PRODUCTS = {
    "mug": "Mug, on stock",
    "sofa": "Sofa, made to order in ten minutes",
    "kite": "Kite, from abroad: customs ask twice",
}
