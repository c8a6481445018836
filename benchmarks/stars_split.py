"""The fields with published members in two halves: settings are chosen on one, the other is only scored.

Sorted by name; even positions are the first half, odd ones the second.
"""

CHOSEN_ON = (
    "Berkeley_17",
    "Berkeley_31",
    "Berkeley_73_deep",
    "IC_1590",
    "M103",
    "NGC1193",
    "NGC1798",
    "NGC1980",
    "NGC2204",
    "NGC2301",
    "NGC2354",
    "NGC2423",
    "NGC3293",
    "NGC609",
    "Saurer_1_deep",
)
SCORED_ONLY = (
    "Berkeley_29_deep",
    "Berkeley_32",
    "Haffner_6",
    "King_8",
    "M36",
    "NGC1502",
    "NGC1817",
    "NGC2192",
    "NGC2236",
    "NGC2324",
    "NGC2420",
    "NGC2509",
    "NGC3680",
    "NGC6834",
    "Tombaugh_2",
)
