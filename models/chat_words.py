"""The words that the synthetic dialogues are made of. A fifth of each list is kept for the evaluation."""
# ruff: noqa: E501, SIM905 - words read best without quotes

import random
from collections.abc import Callable

_LISTS = {
    "name": """Alice Bob Carol David Emma Frank Grace Henry Ivan Julia Karl Laura Marco Nina Oscar Paula Quentin Rosa Sam
        Tina Ursula Victor Wendy Xavier Yara Zoe Amir Bianca Chen Dmitri Elena Fatima Giulia Hassan Ingrid Jonas Keiko
        Lars Mira Noah Olga Pedro Rahul Sofia Tomas Uma Vera Wei Yusuf Ada Ben Clara Dora Erik Fiona Greta Hugo Iris
        Jack Kate Leo Mia Nora Otto Petra Ruth Simon Theo Vincent Walter Zara Anna Boris Cecil Dana Edgar Flora Gina""",
    "city": """Paris,Rome,Berlin,Madrid,Oslo,Vienna,Prague,Lisbon,Dublin,Athens,Tokyo,Kyoto,Delhi,Mumbai,Cairo,Lagos,
        Nairobi,Lima,Quito,Bogota,Toronto,Boston,Chicago,Denver,Seattle,Austin,Dallas,London,Leeds,York,Geneva,Zurich,
        Milan,Naples,Porto,Seville,Hamburg,Munich,Warsaw,Krakow,Sofia,Riga,Tallinn,Helsinki,Bergen,Osaka,Seoul,Hanoi,
        New York,Los Angeles,San Diego,Buenos Aires,Cape Town,Hong Kong,New York City,Mexico City,St. Gallen,
        San Jose CA,Salt Lake City,Rio de Janeiro,Tel Aviv,Sydney,Perth,Accra,Tunis,Dakar,Ankara,Izmir""",
    "place": """Portland, OR; Austin, TX; San Diego, CA; Miami, FL; Boston, MA; Paris, France; Rome, Italy; Lyon, France;
        San Mateo, CA; Santa Fe, NM; Bern, Switzerland; Graz, Austria; Reno, NV; Los Angeles, CA; Ghent, Belgium""",
    "thing": """lamp table bridge garden engine rocket castle tower museum library river forest mountain train bicycle piano
        guitar camera telescope clock mirror window door kettle oven fridge printer keyboard monitor router server robot
        drone boat ship anchor sail tent backpack helmet jacket boot glove hat scarf ring necklace coin stamp letter
        book novel poem song film painting statue fountain market bakery school hospital station airport harbour farm
        barn mill well orchard vineyard meadow valley island cave beach desert glacier volcano temple palace stadium""",
    "animal": """cats dogs birds horses cows sheep goats pigs ducks geese hens foxes wolves bears lions tigers zebras monkeys
        elephants giraffes snakes frogs fish sharks whales dolphins penguins owls eagles mice rabbits bees ants
        parrots robots programmers doctors teachers pirates lawyers computers bananas ghosts vampires snowmen""",
    "job": """teacher doctor nurse baker farmer pilot sailor painter writer singer actor lawyer judge engineer chemist
        plumber carpenter tailor butcher waiter cook gardener driver librarian astronomer dentist architect mechanic""",
    "food": """pizza pasta rice bread cheese soup salad cake pie apples pears plums grapes bananas mangoes noodles sushi
        curry tacos pancakes waffles olives honey chocolate""",
    "colour": "red blue green yellow orange purple pink brown black white grey teal violet gold silver crimson",
    "noun": """order invoice ticket account package parcel report document file folder task project meeting event contact
        customer user player team match recipe ingredient product item price stock flight hotel room car taxi route map
        song album movie show channel device sensor light heater alarm door lock camera battery engine valve pump tank
        planet star crystal widget gadget module record entry note reminder timer score level badge token key message
        email photo video article page chapter poem quote word sentence number matrix vector graph node signal packet""",
    "verb": """get find look_up fetch check search create delete update open close start stop send cancel book reserve order
        buy sell measure scan count compute convert translate calibrate inspect repair clean paint load save archive
        print rename move copy merge split sort rank rate review approve reject lock unlock enable disable activate""",
    "quality": """old new big small bright dark quiet loud fast slow warm cold soft hard heavy light round square clean
        broken famous hidden wooden golden modern ancient busy empty cheap costly strange lovely sharp""",
    "doing": """guards watches repairs carries builds paints follows collects visits protects cleans sells studies
        describes connects supports controls contains produces stores""",
    "style": """Pirate,formal,casual,Shakespearean,friendly,robotic,poetic,Cowboy,sarcastic,royal,Viking,cheerful,solemn,
        grumpy,Jedi,childish,medieval,polite,rude,dramatic,Wizard,Italian chef,surfer,detective""",
}


def _entries(text: str) -> list[str]:
    """Split at semicolons, else at commas, else at white space."""
    separator = next((mark for mark in ";," if mark in text), None)
    return [" ".join(entry.split()) for entry in text.split(separator) if entry.strip()]


_ALL = {kind: _entries(text) for kind, text in _LISTS.items()}
_SCRIPTS = [
    (0x4E00, 0x9F00, 2, 6),  # Chinese
    (0x3041, 0x3096, 3, 7),  # Hiragana
    (0x30A1, 0x30FA, 3, 7),  # Katakana
    (0x0430, 0x044F, 4, 9),  # Cyrillic
    (0x03B1, 0x03C9, 4, 9),  # Greek
    (0xAC00, 0xD7A0, 2, 5),  # Hangul
]


class Words:
    """A source of values; `held_out` gives only those that no training dialogue holds."""

    def __init__(self, rng: random.Random, *, held_out: bool = False) -> None:
        self.rng = rng
        self.held_out = held_out
        self.lists = {
            kind: [entry for n, entry in enumerate(entries) if (n % 5 == 4) == held_out]
            for kind, entries in _ALL.items()
        }

    def one(self, kind: str) -> str:
        """An entry of a list."""
        return self.rng.choice(self.lists[kind])

    def some(self, make: Callable[[], str], count: int) -> list[str]:
        """Distinct values."""
        values: list[str] = []
        while len(values) < count:
            value = make()
            if value not in values:
                values.append(value)
        return values

    def invented(self) -> str:
        """A word that does not exist."""
        rng = self.rng
        syllables = "".join(
            rng.choice("b c d f g h j k l m n p r s t v w z br cr dr fl gr kl pl sh st th tr".split())
            + rng.choice("a e i o u ai ea oo".split())
            for _ in range(rng.randint(1, 3))
        )
        return syllables + rng.choice(["", "n", "r", "s", "x", "l", "ck", "nd", "m"])

    def name(self) -> str:
        """A person's first name."""
        return self.invented().capitalize() if self.rng.random() < 0.5 else self.one("name")

    def full_name(self) -> str:
        """A person's name, half of the time with a family name."""
        return self.name() if self.rng.random() < 0.5 else f"{self.name()} {self.invented().capitalize()}"

    def city(self) -> str:
        """A place."""
        chance = self.rng.random()
        if chance < 0.45:
            return self.invented().capitalize()
        return self.one("place") if chance < 0.52 else self.one("city")

    def thing(self) -> str:
        """A common noun."""
        return self.invented() if self.rng.random() < 0.25 else self.one("thing")

    def number(self) -> int:
        """A whole number, small ones more often."""
        rng = self.rng
        return rng.choice([rng.randint(0, 9), rng.randint(0, 99), rng.randint(0, 999), rng.randint(-99, 99999)])

    def code(self) -> str:
        """An identifier such as a ticket number."""
        rng = self.rng
        letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
        return f"{letters}{rng.choice(['-', '', '_'])}{rng.randint(1, 99999)}"

    def foreign(self) -> str:
        """A word in another script."""
        low, high, shortest, longest = self.rng.choice(_SCRIPTS)
        word = "".join(chr(self.rng.randrange(low, high)) for _ in range(self.rng.randint(shortest, longest)))
        return word.capitalize() if self.rng.random() < 0.5 else word

    def phrase(self) -> str:
        """A few words."""
        rng = self.rng
        words = [rng.choice([self.one("quality"), self.thing(), self.one("noun")]) for _ in range(rng.randint(2, 5))]
        return " ".join(words)

    def sentence(self) -> str:
        """A statement about nothing in particular."""
        rng = self.rng
        subject = rng.choice([self.name(), f"The {self.thing()}", f"The {self.one('quality')} {self.thing()}"])
        end = rng.choice([f" in {self.city()}", "", f" every {rng.choice(['day', 'week', 'night', 'spring'])}"])
        return f"{subject} {self.one('doing')} the {self.one('quality')} {self.thing()}{end}."

    def text(self) -> str:
        """Anything a string argument may hold."""
        return self.rng.choice([self.name, self.city, self.code, self.phrase, self.foreign, self.full_name])()
