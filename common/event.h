/* SPDX-License-Identifier: MIT */
#pragma once

/* The events that the log tells with a MESSAGE_ID, so that a program can wait for them and the catalog
 * (systemd/portledger.catalog) can explain them. Each is explained there and listed in portledgerd(8);
 * scripts/event-docs holds the three against each other. An id is never changed and never used again.
 *
 * Constant, name (the field PORTLEDGER_EVENT), level, MESSAGE_ID. */

/* clang-format off */
#define LOG_EVENTS(X)                                              \
	X(RECORDING_BEGAN, "recording-began", NOTICE, "d67d121ee75f46eb8c6c7f4f2ca92029") \
	X(RECORDING_STOPPED, "recording-stopped", NOTICE, "36cc6b263d944d0592bf408df0ee237f") \
	X(CONFIG_RELOADED, "config-reloaded", NOTICE, "5143cd0c4bc646b998015e831097c3d4") \
	X(CONFIG_REFUSED, "config-refused", ERROR, "840faf612b93403292645ff7d98f66b8") \
	X(CHILD_DIED, "child-died", ERROR, "ab295ed56f3844e685d6dc7ff4b3d36e") \
	X(CHILD_GIVEN_UP, "child-given-up", ERROR, "f4bd0e9920a94421a0e8d9fbb74ff6ec") \
	X(GAP_RECORDED, "gap-recorded", WARNING, "aba0485ed759414ba1e03b01383ab7c8") \
	X(CLOCK_STEPPED, "clock-stepped", NOTICE, "8b3d78f7883742fea0e4745deff34f21") \
	X(DATABASE_REFUSES, "database-refuses", ERROR, "042990bacd0d481f83ab9feb147d3c48") \
	X(DATABASE_ACCEPTS, "database-accepts", NOTICE, "ccecba5d9cb54a7e84748742361a9c03") \
	X(DATABASE_LOCKED, "database-locked", ERROR, "6c17175c3f9e43b39120d22961fb9b2b") \
	X(DATABASE_NEWER, "database-newer", ERROR, "b80e55cdcde743e6a80b5411ce0387bb") \
	X(DATABASE_DAMAGED, "database-damaged", ERROR, "831d6a4b787d4e48b0b915f45de18f2c") \
	X(DATABASE_GONE, "database-gone", ERROR, "258853d1efcd4ef3b535024453074649") \
	X(DISK_LOW, "disk-low", WARNING, "4a2e822cefd04e68b2dece4704d2f7cb") \
	X(DISK_ROOM, "disk-room", NOTICE, "309c84e1b11240c7aeb2b1135d293761") \
	X(TABLES_UNREADABLE, "tables-unreadable", ERROR, "7f867d9662fb4191b91a8d173c1b67c7") \
	X(TABLES_READABLE, "tables-readable", NOTICE, "8d7753f3e5b24e97ad80c9b47f075338") \
	X(INTERVAL_CHANGED, "interval-changed", NOTICE, "de05449157264c3b9e540a3b69c700d9") \
	X(EPHEMERAL_CHANGED, "ephemeral-changed", NOTICE, "ca423eb95fc84bfba04cde1c82148939") \
	X(RUNG_LOST, "rung-lost", WARNING, "ac3d6e0c2fea4627987049b0421985ce") \
	X(LEDGER_BEHIND, "ledger-behind", WARNING, "87a14cd94ba24daea0c3d77d8e11edcc") \
	X(LEDGER_CAUGHT_UP, "ledger-caught-up", NOTICE, "4286f68df887477aa051e4ca0942b77c") \
	X(BASELINE, "baseline", NOTICE, "9439e3a62e6346a5b2323f858eb096b4") \
	X(PROGRAM_NEW, "program-new", NOTICE, "f16b1c4a44a34b67b3700801ed9dbab6") \
	X(LISTENER_NEW, "listener-new", NOTICE, "ca1bffe08bd840458656c36ee68f8140") \
	X(LISTENER_VARIES, "listener-varies", NOTICE, "03bec7fbf2574453af2bc7a164e5dbe6") \
	X(PORTS_SHORT, "ports-short", WARNING, "a7e780ee0bcf4f8a8f82983e9605fe15") \
	X(PORTS_EASED, "ports-eased", NOTICE, "1dfcf881a65044fc9b69e1d613f6700e") \
	X(NEWS_UNNAMED, "news-unnamed", WARNING, "623e7da8eaab47bea3a5213a84462980") \
	X(KNOWN_FULL, "known-full", WARNING, "c1ae3064ce7a4e4cad6ba59dcddac320") \
	X(SUMMARY, "summary", INFO, "b08ee0c2c6b34eb79e5782105e74362d") \
	X(LINES_LOST, "lines-lost", WARNING, "ae3024c71db84562a794ce6b08a86605")
/* clang-format on */

#define LOG_EVENT_CONSTANT(constant, name, level, id) LOG_EVENT_##constant,
enum log_event { LOG_EVENTS(LOG_EVENT_CONSTANT) LOG_EVENT_COUNT };
#undef LOG_EVENT_CONSTANT
