"""A few texts for quick looks at a model: three to weigh heads by, three others to measure on."""

WEIGHING = (
    "The harbour was quiet in the early morning. Two fishermen mended a net on the quay, and a boy counted the "
    "boats as they came in: seven small ones and a trawler from the north. When the bell rang for the auction, "
    "the cats had long been waiting beside the scales, because they knew better than anyone when the first crates "
    "would be opened.",
    "To sort a list in place, choose a pivot, move the smaller items to its left and the larger ones to its "
    "right, and do the same with both parts. The average cost grows with n log n. A bad pivot on every step makes "
    "it quadratic, which is why most libraries take the median of a few items, or switch to another method for "
    "short parts.",
    "Water boils at a lower temperature on a mountain than at the sea, since the air above it presses less. A "
    "cook who follows a recipe from the valley will find the beans hard after an hour. Adding salt changes the "
    "boiling point by so little that nobody can taste the difference in time, though everybody can taste the "
    "salt.",
)
MEASURING = (
    "The committee met for the third time in June. Its chair, a retired judge, asked each member to name one "
    "change to the rules that would cost nothing. Four of them proposed shorter meetings. The fifth proposed that "
    "the minutes be read aloud at the end instead of the beginning, so that those who had to leave would miss "
    "only the minutes.",
    "A function that reads a file should close it, whether or not an error occurs in between. In Python the with "
    "statement does so: the file is closed when the block ends, also when an exception leaves it. In other "
    "languages the same is done by a destructor, by a deferred call, or by the discipline of the programmer, in "
    "that order of trust.",
    "Bees return to the hive by the sun, and on cloudy days by the pattern of polarised light that we cannot see. "
    "A scout that found clover dances for the others: the angle of the dance gives the direction, its length the "
    "distance. The hive then sends more workers, and within an hour the field is full of them.",
)
