"""LoRA Flightdeck: `streamlit run app.py`."""

import streamlit as st

if st.runtime.exists():  # a session asks for a page
    from pages.parts.shell.navigation import main

    main()
else:  # the server starts
    from starlette.middleware import Middleware

    from pages.parts.shell.http_policy import HttpPolicy

    app = st.App(__file__, middleware=[Middleware(HttpPolicy)])
