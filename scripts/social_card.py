"""Draw `docs/assets/social-card.png`, the site's preview in chats and social networks; needs matplotlib."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

TARGET = Path(__file__).parents[1] / "docs" / "assets" / "social-card.png"


def main() -> None:
    """Draw the card, 1200 by 630 pixels."""
    figure = pyplot.figure(figsize=(12, 6.3), dpi=100, facecolor="#22303c")
    figure.text(0.08, 0.62, "llamacpp-server", color="#f4a340", fontsize=58, weight="bold")
    figure.text(
        0.08,
        0.47,
        "llama.cpp's llama-server for LangChain,\nLangGraph and LlamaIndex",
        color="white",
        fontsize=27,
        va="top",
    )
    figure.text(
        0.08, 0.12, "pip install 'llamacpp-server[langchain]'", color="#9fb3c4", fontsize=22, family="monospace"
    )
    figure.savefig(TARGET)


if __name__ == "__main__":
    main()
