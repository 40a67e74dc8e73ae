"""What surrounds every screen: navigation, language, services, session keys, addresses."""
