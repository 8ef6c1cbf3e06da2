/* The words that keys and values are made of: adjective-noun. Only ever append to a list: a sample is a function of its
 * seed and of the lists' lengths. */
#include "runtime/eval/draws.h"

#include <stdio.h>

static const char *const adjectives[] = {
    "able",     "abrupt",  "acid",   "agile",    "alert",    "amber",   "ample",   "ancient", "arctic",  "ardent",
    "autumn",   "aware",   "azure",  "bitter",   "blank",    "bleak",   "blunt",   "bold",    "brave",   "brief",
    "bright",   "brisk",   "broad",  "bronze",   "burly",    "calm",    "candid",  "careful", "cheap",   "chilly",
    "civic",    "clean",   "clear",  "clever",   "coarse",   "cold",    "common",  "copper",  "cosmic",  "cozy",
    "crisp",    "curly",   "daily",  "damp",     "dark",     "deep",    "dense",   "dim",     "distant", "double",
    "dry",      "dull",    "eager",  "early",    "earnest",  "easy",    "elder",   "elegant", "empty",   "even",
    "exact",    "faint",   "fair",   "famous",   "fancy",    "fast",    "fertile", "fierce",  "final",   "firm",
    "flat",     "fluent",  "fond",   "formal",   "frail",    "frank",   "free",    "fresh",   "frozen",  "gentle",
    "giant",    "glad",    "global", "golden",   "good",     "grand",   "grave",   "great",   "green",   "gray",
    "handy",    "happy",   "hard",   "hasty",    "heavy",    "hidden",  "hollow",  "honest",  "huge",    "humble",
    "idle",     "inner",   "ivory",  "jolly",    "keen",     "kind",    "large",   "late",    "lavish",  "lean",
    "level",    "light",   "lively", "local",    "lonely",   "long",    "loud",    "loyal",   "lucky",   "lunar",
    "major",    "marine",  "mellow", "merry",    "mighty",   "mild",    "minor",   "modern",  "modest",  "narrow",
    "native",   "neat",    "new",    "noble",    "northern", "novel",   "odd",     "open",    "orange",  "outer",
    "pale",     "patient", "plain",  "pleasant", "polite",   "precise", "prime",   "private", "proud",   "public",
    "pure",     "quick",   "quiet",  "rapid",    "rare",     "ready",   "regal",   "remote",  "rich",    "rigid",
    "robust",   "rosy",    "rough",  "round",    "royal",    "rugged",  "rural",   "rusty",   "sacred",  "safe",
    "scarce",   "scenic",  "secret", "senior",   "serene",   "sharp",   "shiny",   "short",   "shy",     "silent",
    "silver",   "simple",  "sleepy", "slim",     "slow",     "small",   "smooth",  "snowy",   "sober",   "social",
    "soft",     "solar",   "solid",  "sour",     "spare",    "spicy",   "stable",  "steady",  "steep",   "stern",
    "still",    "stout",   "strict", "strong",   "sturdy",   "subtle",  "sudden",  "sunny",   "super",   "sweet",
    "swift",    "tall",    "tame",   "tender",   "thick",    "thin",    "tidy",    "timid",   "tiny",    "tough",
    "tranquil", "true",    "upper",  "urban",    "usual",    "vague",   "vast",    "velvet",  "verbal",  "violet",
    "vivid",    "warm",    "wary",   "weary",    "western",  "wide",    "wild",    "wise",    "witty",   "wooden",
    "young",    "zealous",
};

static const char *const nouns[] = {
    "acorn",   "actor",    "album",   "alley",    "almond",  "anchor",   "angle",   "ankle",   "antler",   "apple",
    "apron",   "arbor",    "archer",  "arena",    "armor",   "arrow",    "artist",  "aspen",   "atlas",    "attic",
    "autumn",  "badge",    "baker",   "balcony",  "ballad",  "bamboo",   "banjo",   "banner",  "barley",   "barrel",
    "basin",   "basket",   "beacon",  "beaver",   "bell",    "bench",    "berry",   "bishop",  "blanket",  "blossom",
    "bolt",    "bonnet",   "border",  "bottle",   "boulder", "bracelet", "branch",  "bridge",  "broom",    "brush",
    "bucket",  "buckle",   "bugle",   "butter",   "button",  "cabin",    "cable",   "cactus",  "camel",    "camera",
    "candle",  "canoe",    "canvas",  "canyon",   "captain", "carbon",   "cargo",   "carpet",  "carrot",   "castle",
    "cavern",  "cedar",    "cellar",  "chalk",    "chapel",  "cherry",   "chest",   "chimney", "cider",    "circle",
    "citadel", "clay",     "cliff",   "clover",   "cobbler", "comet",    "compass", "copper",  "coral",    "cottage",
    "cotton",  "cradle",   "crane",   "crater",   "cricket", "crystal",  "cushion", "cypress", "daisy",    "dancer",
    "desert",  "diamond",  "doctor",  "dolphin",  "donkey",  "dragon",   "drawer",  "drummer", "eagle",    "easel",
    "echo",    "elbow",    "elder",   "ember",    "engine",  "falcon",   "farmer",  "feather", "fender",   "fern",
    "ferry",   "fiddle",   "field",   "flame",    "flask",   "flute",    "forest",  "fossil",  "fountain", "fox",
    "furnace", "galaxy",   "garden",  "garlic",   "garnet",  "gate",     "geyser",  "ginger",  "glacier",  "glove",
    "goblet",  "granite",  "grape",   "gravel",   "guitar",  "hammer",   "hamlet",  "harbor",  "harvest",  "hazel",
    "hedge",   "helmet",   "heron",   "hinge",    "hollow",  "honey",    "horizon", "hornet",  "hunter",   "iceberg",
    "inlet",   "iris",     "island",  "ivy",      "jacket",  "jasmine",  "jigsaw",  "jungle",  "kernel",   "kettle",
    "kitten",  "ladder",   "lagoon",  "lantern",  "lattice", "laurel",   "leaf",    "ledger",  "lemon",    "lettuce",
    "library", "lily",     "linen",   "lizard",   "locket",  "lodge",    "lumber",  "magnet",  "mantle",   "maple",
    "marble",  "market",   "marsh",   "meadow",   "medal",   "melon",    "mirror",  "mitten",  "monkey",   "mortar",
    "moss",    "mountain", "muffin",  "museum",   "needle",  "nest",     "nickel",  "nutmeg",  "oak",      "oasis",
    "ocean",   "olive",    "onion",   "opal",     "orchard", "orchid",   "otter",   "oven",    "oyster",   "paddle",
    "palace",  "panther",  "paper",   "parcel",   "parrot",  "pebble",   "pencil",  "pepper",  "petal",    "pewter",
    "piano",   "pillar",   "pilot",   "pine",     "pistol",  "planet",   "plaza",   "plum",    "pocket",   "pond",
    "poplar",  "porch",    "portal",  "potter",   "prairie", "prism",    "puddle",  "pumpkin", "puppet",   "quarry",
    "quartz",  "quill",    "rabbit",  "raft",     "raven",   "ribbon",   "ridge",   "river",   "robin",    "rocket",
    "rope",    "saddle",   "sailor",  "salmon",   "sandal",  "satchel",  "scarf",   "school",  "shadow",   "shell",
    "sheriff", "shield",   "shore",   "signal",   "sketch",  "sparrow",  "spindle", "spruce",  "squirrel", "statue",
    "stream",  "sugar",    "summit",  "sunset",   "swan",    "table",    "tailor",  "teapot",  "temple",   "thicket",
    "thimble", "thistle",  "thunder", "timber",   "tower",   "trail",    "tulip",   "tunnel",  "turnip",   "turtle",
    "valley",  "vessel",   "village", "violin",   "walnut",  "walrus",   "wagon",   "water",   "willow",   "window",
    "winter",  "wizard",   "wolf",    "workshop", "yarn",    "zephyr",   "zipper",
};

enum { N_ADJECTIVES = sizeof adjectives / sizeof *adjectives, N_NOUNS = sizeof nouns / sizeof *nouns };

void lucid_draws_word(char *text, lucid_draws *draws) {
    const char *adjective = adjectives[lucid_draws_below(draws, N_ADJECTIVES)];
    snprintf(text, LUCID_DRAWN_MAX, "%s-%s", adjective, nouns[lucid_draws_below(draws, N_NOUNS)]);
}
