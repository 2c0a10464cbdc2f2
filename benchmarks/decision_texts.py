"""240 short messages of customers with the team that should get each: made here, for the measurements of decisions."""

from __future__ import annotations

from typing import Final

TEAMS: Final = {
    "billing": "invoices, charges, refunds and payments",
    "shipping": "delivery, parcels, addresses and couriers",
    "technical": "errors, crashes, bugs and things that do not work",
    "account": "passwords, logins, profiles and closing an account",
}

_CORES: Final = {
    "billing": [
        "I was charged twice for one order",
        "the invoice shows the wrong amount",
        "my credit card was declined although it is valid",
        "I would like a refund for last month",
        "please send me a receipt with the tax on it",
        "the discount code was not applied to the total",
        "why did the price of my subscription go up",
        "can I pay by bank transfer instead",
        "there is a fee on my bill that I do not know",
        "the payment is still pending after three days",
        "I need a copy of the invoice for March",
        "you took the money but my order was cancelled",
        "how do I change the card that you charge",
        "I want to pay yearly instead of monthly",
        "the refund has not reached my bank",
        "my bill has the wrong company name on it",
        "do you charge for a late payment",
        "the currency on my receipt is wrong",
        "I paid too much, please give back the rest",
        "when is the next payment due",
    ],
    "shipping": [
        "my parcel has not arrived yet",
        "the courier left the box in the rain",
        "can you send the order to another address",
        "the tracking number does not show any movement",
        "the package was delivered to my neighbour",
        "how long does delivery to Norway take",
        "half of the items were missing from the box",
        "the driver did not ring the bell",
        "the parcel came back to you instead of to me",
        "can I collect the order from a pick-up point",
        "the box was crushed when it arrived",
        "I need the delivery before Friday",
        "do you ship to islands",
        "customs is holding my package",
        "the street name on the label is wrong",
        "please deliver after six in the evening",
        "my order says delivered but nothing is here",
        "which courier brings the parcel",
        "the delivery was late by two weeks",
        "can you combine two orders in one shipment",
    ],
    "technical": [
        "the app crashes when I open it",
        "the page shows error 500",
        "the button for saving does nothing",
        "pictures do not load on my phone",
        "the screen stays white after the update",
        "the search finds nothing at all",
        "sound is missing in every video",
        "the export writes an empty file",
        "the printer is not recognized by the program",
        "the website is very slow today",
        "the app drains my battery within an hour",
        "syncing stops at ninety percent",
        "the map freezes when I zoom in",
        "I get a blue screen after installing the driver",
        "the file can't be opened in the new version",
        "the program does not start on Windows",
        "notifications no longer appear",
        "the camera stays black in the app",
        "the download breaks off every time",
        "the table shows strange symbols instead of letters",
    ],
    "account": [
        "I forgot my password",
        "the reset mail with the link never comes",
        "please delete my profile and all my data",
        "I can't sign in with my new e-mail address",
        "how do I change my user name",
        "someone else has logged in as me",
        "I want to close my account",
        "my login is locked after three attempts",
        "how do I turn on two-factor sign-in",
        "I lost the phone with my login codes",
        "can two people share one profile",
        "please change the e-mail address of my profile",
        "I would like to add a second user",
        "my profile picture can't be changed",
        "the sign-up form says that my name is taken",
        "how do I see who has access to my account",
        "I no longer want to be a member",
        "please confirm that my old profile is gone",
        "my user name is spelled wrong",
        "I need to change the owner of our team account",
    ],
}
_TONES: Final = (
    "Hello, {}.",
    "{}! Please help me.",
    "Good evening. I hope you are well. {}, and I do not know what to do.",
)

TEXTS: Final = [
    (tone.format(core if tone.startswith("Hello") else core[0].upper() + core[1:]), team)
    for team, cores in _CORES.items()
    for core in cores
    for tone in _TONES
]
"""(text, team), in blocks by team."""
