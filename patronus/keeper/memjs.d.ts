/** What is used of memjs, which has no types of its own. */
declare module 'memjs' {
  interface ServerOptions {
    /** Seconds. */
    readonly timeout?: number;
    readonly conntimeout?: number;
  }

  interface ClientOptions extends ServerOptions {
    /** How often an operation is tried in all. */
    readonly retries?: number;
    readonly logger?: { log(message: string): void };
  }

  interface Expiring {
    /** Seconds from now. */
    readonly expires?: number;
  }

  class Server {
    constructor(
      host: string,
      port: number,
      username: string | undefined,
      password: string | undefined,
      options: ServerOptions,
    );
    /** What came and is not a whole answer yet. */
    responseBuffer: Buffer;
    /** Bytes have come. */
    responseHandler(bytes: Buffer): void;
    /** Close the connection and fail all operations under way. */
    error(error: Error): void;
  }

  class Client {
    constructor(servers: readonly Server[], options: ClientOptions);
    get(key: string): Promise<{ readonly value: Buffer | null }>;
    set(key: string, value: Uint8Array, options: Expiring): Promise<boolean>;
    /** False if the key is there. */
    add(key: string, value: Uint8Array, options: Expiring): Promise<boolean>;
    delete(key: string): Promise<boolean>;
    /** False if the key is not there. */
    touch(key: string, expires: number): Promise<boolean>;
    close(): void;
  }

  const memjs: { readonly Client: typeof Client; readonly Server: typeof Server };
  export default memjs;
}
