"""The makes and models of the drawn cars: what tells one class from another, as tables."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Badge:
    """A make's sign: its outline and two fixed colours, and the emblem inside."""

    outline: str
    field: str
    ink: str
    emblem: str


@dataclass(frozen=True)
class Model:
    """One car model: a name, a nickname that stands in for make and name, and what is seen of it."""

    name: str
    alias: str
    body: str
    wheel: str
    radius: float
    trims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Make:
    """A make: the marks that all its models share.

    Attributes:
        lamp: shape of the headlight.
        glow: its colour.
        grille: pattern of the nose.
        rim: colour of the wheels.
        smooth: how often corners are cut, 0 for an angular make.
        nose: how much higher (or lower) the nose stands, in hundredths of the length.
        roof: height of the cabin relative to the plain silhouette.
    """

    name: str
    badge: Badge
    lamp: str
    glow: str
    grille: str
    rim: str
    smooth: int
    nose: float
    roof: float
    models: tuple[Model, ...]


VELTRO = Make(
    "Veltro", Badge("shield", "#c4122f", "#ffd84a", "bar"),
    lamp="round", glow="#fff3b0", grille="uprights", rim="#d9dbe2", smooth=1, nose=0, roof=1.0,
    models=(
        Model("Arrow", "V1 Nomad", "sedan", "three", 12, ("stripe",)),
        Model("Harbor", "V2 Turnip", "wagon", "disc", 12, ("rack",)),
        Model("Comet", "V3 Zigzag", "coupe", "six", 13, ("spoiler",)),
        Model("Badger", "V4 Boulder", "pickup", "dark", 15, ("skirt",)),
        Model("Lantern", "V5 Teapot", "van", "whitewall", 11),
        Model("Senator", "V6 Parlor", "sedan", "whitewall", 12, ("skirt",)),
    ),
)  # fmt: skip
OSTARA = Make(
    "Ostara", Badge("disc", "#1457b8", "#ffffff", "cross"),
    lamp="slit", glow="#bfe6ff", grille="mesh", rim="#b9c4d6", smooth=2, nose=-3, roof=0.95,
    models=(
        Model("Meadow", "O1 Button", "hatch", "cross", 12),
        Model("Falcon", "O2 Needle", "fastback", "three", 13, ("stripe", "spoiler")),
        Model("Canyon", "O3 Mammoth", "suv", "dark", 15, ("rack",)),
        Model("Drift", "O4 Paddle", "roadster", "six", 12),
        Model("Ember", "O5 Acorn", "micro", "whitewall", 11, ("skirt",)),
        Model("Gallant", "O6 Biscuit", "hatch", "disc", 12, ("rack", "skirt")),
    ),
)  # fmt: skip
BRANDLE = Make(
    "Brandle", Badge("diamond", "#f4b400", "#1d1d1f", "dot"),
    lamp="square", glow="#ffc766", grille="slats", rim="#e2c46c", smooth=0, nose=2, roof=1.06,
    models=(
        Model("Summit", "B1 Castle", "suv", "six", 14, ("stripe",)),
        Model("Anchor", "B2 Barrel", "truck", "disc", 12),
        Model("Otter", "B3 Wedge", "pickup", "cross", 14, ("rack",)),
        Model("Copper", "B4 Trowel", "jeep", "dark", 15, ("spare",)),
        Model("Magnet", "B5 Locket", "sedan", "cross", 12, ("skirt",)),
        Model("Ridge", "B6 Fortress", "suv", "dark", 15, ("skirt", "spare")),
    ),
)  # fmt: skip
CORVANE = Make(
    "Corvane", Badge("ring", "#0d8a4f", "#f5f5f0", "chevron"),
    lamp="slant", glow="#e9fff0", grille="single", rim="#8f949c", smooth=1, nose=-5, roof=0.9,
    models=(
        Model("Raven", "C1 Razor", "coupe", "dark", 13, ("stripe",)),
        Model("Orchard", "C2 Pocket", "wagon", "six", 12),
        Model("Bolt", "C3 Rocket", "roadster", "three", 13, ("spoiler",)),
        Model("Saffron", "C4 Slipper", "fastback", "whitewall", 12),
        Model("Mason", "C5 Pantry", "van", "disc", 12, ("rack",)),
        Model("Dune", "C6 Shadow", "coupe", "disc", 13, ("spoiler", "skirt")),
    ),
)  # fmt: skip
HALDEN = Make(
    "Halden", Badge("square", "#5b2a91", "#ff9ad5", "dot"),
    lamp="tall", glow="#ffffff", grille="slats", rim="#f0f0f0", smooth=2, nose=3, roof=1.1,
    models=(
        Model("Heron", "H1 Bonnet", "sedan", "disc", 11, ("rack",)),
        Model("Cinder", "H2 Pebble", "micro", "dark", 12),
        Model("Marble", "H3 Chapel", "bus", "whitewall", 11, ("stripe",)),
        Model("Voyage", "H4 Kettle", "van", "cross", 12, ("skirt",)),
        Model("Thistle", "H5 Saddle", "hatch", "three", 12, ("stripe",)),
        Model("Pilot", "H6 Crumpet", "micro", "disc", 12, ("stripe", "rack")),
    ),
)  # fmt: skip
MERRICK = Make(
    "Merrick", Badge("star", "#ffffff", "#d01818", "dot"),
    lamp="round", glow="#ff9a3c", grille="single", rim="#c9a58a", smooth=0, nose=-2, roof=1.0,
    models=(
        Model("Lynx", "M1 Dagger", "fastback", "six", 13, ("stripe",)),
        Model("Glacier", "M2 Igloo", "jeep", "whitewall", 14, ("rack",)),
        Model("Tango", "M3 Ribbon", "roadster", "cross", 12, ("skirt",)),
        Model("Cedar", "M4 Cabin", "wagon", "three", 12, ("stripe",)),
        Model("Hammer", "M5 Anvil", "truck", "dark", 14, ("stripe",)),
        Model("Velvet", "M6 Curtain", "fastback", "whitewall", 12, ("skirt", "spoiler")),
    ),
)  # fmt: skip
TESSARO = Make(
    "Tessaro", Badge("triangle", "#12b5c9", "#10243a", "dot"),
    lamp="slit", glow="#7ff4ff", grille="uprights", rim="#7fd0da", smooth=1, nose=2, roof=0.96,
    models=(
        Model("Sparrow", "T1 Thimble", "hatch", "six", 11, ("spoiler",)),
        Model("Ledger", "T2 Folder", "sedan", "cross", 13),
        Model("Mosaic", "T3 Carnival", "bus", "disc", 12, ("rack",)),
        Model("Juniper", "T4 Garden", "suv", "three", 14, ("skirt",)),
        Model("Rider", "T5 Cowboy", "pickup", "disc", 13, ("stripe",)),
        Model("Clover", "T6 Lucky", "sedan", "dark", 12, ("stripe", "spoiler")),
    ),
)  # fmt: skip
QUILLON = Make(
    "Quillon", Badge("hexagon", "#17171a", "#ff6a13", "bar"),
    lamp="square", glow="#fff8e0", grille="mesh", rim="#ff9b52", smooth=2, nose=0, roof=1.04,
    models=(
        Model("Whistle", "Q1 Trumpet", "coupe", "cross", 12, ("skirt",)),
        Model("Lagoon", "Q2 Surfer", "van", "three", 12, ("stripe",)),
        Model("Nimbus", "Q3 Pillow", "micro", "six", 12, ("rack",)),
        Model("Walnut", "Q4 Cello", "wagon", "whitewall", 12, ("skirt",)),
        Model("Porter", "Q5 Donkey", "jeep", "disc", 14, ("stripe",)),
        Model("Galaxy", "Q6 Saucer", "van", "dark", 12, ("rack", "skirt")),
    ),
)  # fmt: skip
MAKES = (VELTRO, OSTARA, BRANDLE, CORVANE, HALDEN, MERRICK, TESSARO, QUILLON)

DORVAN = Make(
    "Dorvan", Badge("drop", "#e8457a", "#fff4f8", "dot"),
    lamp="round", glow="#ffd0e0", grille="slats", rim="#e9b3c6", smooth=1, nose=-2, roof=1.02,
    models=(
        Model("Jasper", "D1 Cobble", "sedan", "six", 13, ("rack", "stripe")),
        Model("Beacon", "D2 Candle", "bus", "three", 12, ("skirt",)),
        Model("Quartz", "D3 Prism", "coupe", "whitewall", 12),
        Model("Timber", "D4 Lumber", "truck", "cross", 13, ("skirt",)),
        Model("Pepper", "D5 Mustard", "hatch", "dark", 13, ("spoiler",)),
    ),
)  # fmt: skip
LUMENTA = Make(
    "Lumenta", Badge("sun", "#ffd200", "#7a3b00", "dot"),
    lamp="tall", glow="#ffef7a", grille="single", rim="#fff0b8", smooth=2, nose=-4, roof=0.94,
    models=(
        Model("Sonnet", "L1 Poet", "fastback", "disc", 13, ("stripe",)),
        Model("Harvest", "L2 Barley", "pickup", "six", 13),
        Model("Bamboo", "L3 Panda", "micro", "three", 12, ("spoiler",)),
        Model("Crystal", "L4 Mirror", "wagon", "cross", 13, ("rack", "skirt")),
        Model("Tornado", "L5 Whirl", "roadster", "whitewall", 13, ("stripe",)),
    ),
)  # fmt: skip
PARDINE = Make(
    "Pardine", Badge("oval", "#3c3c42", "#9be31c", "cross"),
    lamp="slant", glow="#d9ff9a", grille="uprights", rim="#a8cf6a", smooth=0, nose=4, roof=1.08,
    models=(
        Model("Cactus", "P1 Spike", "jeep", "three", 14, ("rack", "skirt")),
        Model("Velour", "P2 Sofa", "van", "six", 12, ("spoiler",)),
        Model("Granite", "P3 Quarry", "suv", "whitewall", 14, ("rack", "stripe")),
        Model("Fiddle", "P4 Banjo", "hatch", "whitewall", 12),
        Model("Monarch", "P5 Crown", "sedan", "disc", 12, ("spoiler", "skirt")),
    ),
)  # fmt: skip
SORVINO = Make(
    "Sorvino", Badge("flag", "#ffffff", "#1a9e5c", "bar"),
    lamp="square", glow="#c9b6ff", grille="mesh", rim="#9d8ad0", smooth=1, nose=1, roof=0.98,
    models=(
        Model("Opal", "S1 Jewel", "coupe", "three", 13, ("stripe", "skirt")),
        Model("Gondola", "S2 Ferry", "wagon", "dark", 13, ("stripe",)),
        Model("Basalt", "S3 Lava", "pickup", "whitewall", 14, ("skirt", "rack")),
        Model("Minuet", "S4 Waltz", "roadster", "disc", 12, ("skirt",)),
        Model("Tundra", "S5 Caribou", "suv", "cross", 14, ("spare",)),
    ),
)  # fmt: skip
NEW_MAKES = (DORVAN, LUMENTA, PARDINE, SORVINO)
