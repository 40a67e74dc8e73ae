"""LoRA Flightdeck: `streamlit run app.py`."""

from pages.parts.navigation import main

main()
