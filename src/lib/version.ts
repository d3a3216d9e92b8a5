/** Put in by the build (esbuild `define`); a run from the sources has none of them. */
declare const __LBD_VERSION__: string | undefined;
declare const __LBD_COMMIT__: string | undefined;
declare const __LBD_ADDON__: string | undefined;

export const VERSION = typeof __LBD_VERSION__ === 'string' ? __LBD_VERSION__ : '0.1.0-dev';

/** The commit that was built, shortened; `source` for a run from the sources. */
export const COMMIT = typeof __LBD_COMMIT__ === 'string' ? __LBD_COMMIT__ : 'source';

/** The first digits of the SHA-256 of the native addon inside the executable; `source` for a run from the sources. */
export const ADDON = typeof __LBD_ADDON__ === 'string' ? __LBD_ADDON__ : 'source';
