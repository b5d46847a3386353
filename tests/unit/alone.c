/* SPDX-License-Identifier: MIT */

/* Does nothing: it is linked with one leaf, whole, to see that the leaf needs nothing of its neighbours. */
int main(void)
{
	return 0;
}
