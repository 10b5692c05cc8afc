"""Texts of the demo: captions of drawings, plain notes, and notes with pictures between the words."""

from __future__ import annotations

from typing import Final

CAPTIONS: Final = {
    "rainfall": "Bar chart of the rainfall in each month: wettest in November, driest in July",
    "temperature": "Line chart of day and night temperatures over a year",
    "energy-mix": "Pie chart of where the electricity of a town comes from: wind, water, sun, gas and biomass",
    "study-hours": "Scatter plot: students who practise more hours get better test marks",
    "budget": "Stacked bar chart of a club's yearly spending on rent, travel and equipment",
    "schedule": "Gantt chart, the plan of work for building a garden shed in eight weeks",
    "water-cycle": "Diagram of the water cycle: evaporation from the sea, clouds, rain and run-off",
    "making-tea": "Flow chart for making tea",
    "web-service": "Architecture diagram: a browser, a load balancer, two servers and their database",
    "solar-system": "The sun and the eight planets on their orbits, not to scale",
    "venn": "Venn diagram of three circles that asks what makes a good map",
    "food-chain": "A food chain in a pond, from the sun over algae to the heron",
    "tree-of-names": "Family tree of three generations",
    "plant": "The parts of a plant: flower, leaf, stem and root",
    "treasure": "Treasure map of an island, the path marked in red ends at a cross",
    "metro": "Map of a metro network with three lines that meet at Central",
    "trade-routes": "Map of trade routes between the towns of two coasts",
    "weather": "Weather map for tomorrow, sun in the north-west, showers elsewhere",
    "park": "Plan of a city park with a pond, a playground and a café",
}

TEXTS: Final = {
    "sourdough": (
        "Feed the sourdough starter with equal weights of flour and water every evening. "
        "It is ready to bake with when it doubles its size within six hours and smells of yoghurt."
    ),
    "chess-opening": (
        "In the Italian game White develops the bishop to c4 on the third move and aims at the weak square f7. "
        "Beginners learn it first because every move follows a plain idea."
    ),
    "backup-rule": (
        "Keep three copies of every file that matters, on two kinds of storage, one of them in another building. "
        "A backup that has never been restored is only a hope."
    ),
    "bees": (
        "A honey bee tells the others where she found nectar by dancing: "
        "the angle of her run gives the direction to the sun, its length the distance."
    ),
    "tides": (
        "The moon's gravity raises the tides. "
        "Twice a month, when sun and moon pull in one line, the water rises highest."
    ),
}

# A word that begins with `@` names a picture.
NOTES: Final[dict[str, tuple[str, ...]]] = {
    "flat-tyre": (
        "How to mend a flat tyre. Turn the bicycle upside down and take the wheel out.",
        "@bicycle",
        "Lever the tyre off the rim, pull out the inner tube, find the hole under water and glue the patch.",
    ),
    "espresso": (
        "The perfect espresso: 18 grams of finely ground beans, 25 seconds, 36 grams in the cup.",
        "@coffee",
        "If it runs faster and tastes sour, grind finer; if it drips and tastes bitter, grind coarser.",
    ),
    "first-sail": (
        "Notes from the first sailing lesson. Port is left, starboard is right.",
        "@sailing-boat",
        "A boat under sail gives way to the one with the wind from starboard. Reef early when the wind grows.",
    ),
    "launch-day": (
        "Launch day: the tanks are filled in the last half hour, and the towers fold back.",
        "@rocket",
        "Above the clouds the first stage falls away. What it carries is meant to look far out:",
        "@galaxies",
    ),
    "right-of-way": (
        "Theory lesson two. At the octagonal sign every car halts completely, even on an empty road.",
        "@stop",
        "Where the triangle warns of people on foot, slow down and be ready to brake.",
        "@crossing",
    ),
    "hike": (
        "Sunday hike: follow the yellow signs from the car park to the lake.",
        "@trail",
        "From the hut the view opens to the snowy peaks. Take a rain jacket.",
        "@mountains",
    ),
}
