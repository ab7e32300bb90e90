"""Thirty-six pairs of sentences, from paraphrases to sentences that have nothing to do with each other."""

PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "paraphrase": (
        ("A cat sleeps on the warm windowsill.", "The kitten is dozing on the sunny window ledge."),
        ("How can I change the password of my account?", "What do I do to set a new account password?"),
        ("The central bank raised interest rates again.", "Once more, rates were increased by the central bank."),
        ("He repaired the bicycle in his garage.", "The bike was fixed by him in the garage."),
        ("The train to Lyon leaves at seven in the morning.", "At 7 a.m. the train departs for Lyon."),
        ("Drinking enough water helps against headaches.", "You can prevent headaches by staying hydrated."),
        ("The team won the final after extra time.", "It took extra time, but the team took the title."),
        ("She has been learning the violin for three years.", "Three years ago she took up the violin."),
        ("Heavy rain flooded several streets in the old town.", "A downpour left parts of the old town under water."),
    ),
    "close": (
        ("A cat sleeps on the warm windowsill.", "Two dogs are lying in front of the fireplace."),
        ("How can I change the password of my account?", "I would like to delete my account for good."),
        ("The central bank raised interest rates again.", "Mortgages have become more expensive this year."),
        ("He repaired the bicycle in his garage.", "She bought a used bicycle at the flea market."),
        ("The train to Lyon leaves at seven in the morning.", "The flight to Marseille was delayed by two hours."),
        ("Drinking enough water helps against headaches.", "Too much coffee keeps me awake at night."),
        ("The team won the final after extra time.", "The goalkeeper was injured in the first match."),
        ("She has been learning the violin for three years.", "The orchestra is looking for a new cellist."),
        ("Heavy rain flooded several streets in the old town.", "The weather forecast announces snow for the weekend."),
    ),
    "distant": (
        ("A cat sleeps on the warm windowsill.", "Double glazing keeps a house warm in winter."),
        ("How can I change the password of my account?", "The bank sends a statement at the end of each month."),
        ("The central bank raised interest rates again.", "Fishing on the river bank needs a permit."),
        ("He repaired the bicycle in his garage.", "The mechanic says that the engine must be replaced."),
        ("The train to Lyon leaves at seven in the morning.", "My grandmother gets up early to bake bread."),
        ("Drinking enough water helps against headaches.", "The river has been clean enough to swim in since May."),
        ("The team won the final after extra time.", "Our sales team reached its target for the quarter."),
        ("She has been learning the violin for three years.", "Most pupils learn a second language at school."),
        ("Heavy rain flooded several streets in the old town.", "The city council wants fewer cars in the centre."),
    ),
    "unrelated": (
        ("A cat sleeps on the warm windowsill.", "The committee adopted the budget for next year."),
        ("How can I change the password of my account?", "Volcanic soil is good for growing wine."),
        ("The central bank raised interest rates again.", "Penguins take turns in keeping the egg warm."),
        ("He repaired the bicycle in his garage.", "A sonnet has fourteen lines."),
        ("The train to Lyon leaves at seven in the morning.", "Proteins are folded into complicated shapes."),
        ("Drinking enough water helps against headaches.", "The museum shows woodcuts from Japan."),
        ("The team won the final after extra time.", "Whisk the egg whites until they are stiff."),
        ("She has been learning the violin for three years.", "The satellite sends its data twice a day."),
        ("Heavy rain flooded several streets in the old town.", "This function returns a sorted list of integers."),
    ),
}


def sentences() -> list[str]:
    """All sentences: those of pair `i` are entries `2 i` and `2 i + 1`."""
    return [sentence for pairs in PAIRS.values() for pair in pairs for sentence in pair]
